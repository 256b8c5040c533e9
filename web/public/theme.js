// Runs before the first paint, from its own file because the content security policy allows no inline script.
(() => {
  let choice = null;
  try {
    choice = localStorage.getItem('rexec.theme');
  } catch {
    // Storage may be forbidden; the system's preference then decides.
  }
  if (choice === 'dark' || choice === 'light') document.documentElement.dataset.theme = choice;
})();
