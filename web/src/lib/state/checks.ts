/** What a form can say about a value before the server does. The server's limits are the law; these save a round trip. */

/** Shortest password control takes, in characters. */
export const PASSWORD_MIN = 12;
/** Longest machine name, in characters. */
export const NAME_MAX = 63;

export function checkEmail(value: string): string | undefined {
  const email = value.trim();
  if (email === '') return 'Enter your email address';
  if (!email.includes('@')) return 'An email address has an @ in it';
  const [local, domain] = [
    email.slice(0, email.lastIndexOf('@')),
    email.slice(email.lastIndexOf('@') + 1),
  ];
  if (local === '') return 'The part before the @ is missing';
  if (domain === '') return 'The part after the @ is missing';
  if (/\s/.test(email)) return 'An email address has no spaces';
  return undefined;
}

export function checkNewPassword(value: string): string | undefined {
  const length = [...value].length;
  if (length === 0) return 'Choose a password';
  if (length < PASSWORD_MIN) {
    const missing = PASSWORD_MIN - length;
    return `${missing} more character${missing === 1 ? '' : 's'}: at least ${PASSWORD_MIN} in all`;
  }
  return undefined;
}

export function checkPersonName(value: string): string | undefined {
  return value.trim() === '' ? 'Enter the name others will see' : undefined;
}

export function checkMachineName(value: string): string | undefined {
  const name = value.trim();
  if (name === '') return 'A machine needs a name';
  if (name.length > NAME_MAX) return `At most ${NAME_MAX} characters`;
  if (!/^[a-z0-9][a-z0-9._-]*$/i.test(name))
    return 'Letters, digits, dots, underscores and dashes, beginning with a letter or digit';
  return undefined;
}
