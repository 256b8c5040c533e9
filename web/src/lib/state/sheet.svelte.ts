/** Whether the list of keyboard shortcuts is shown; opened by `?` and from the account menu. */
export const sheet = $state({ open: false });
