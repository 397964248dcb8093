// Copies the address of the view, without what a host adds for the frame that the page is in (__sign, __theme);
// where the browser refuses, the address bar holds it all the same.
() => {
  const button = document.getElementById('copy-link');
  const say = (text) => {
    button.textContent = text;
    setTimeout(() => { button.textContent = 'Copy link'; }, 1600);
  };
  const link = new URL(window.location.href);
  [...link.searchParams.keys()].filter((name) => name.startsWith('__')).forEach((name) => link.searchParams.delete(name));
  if (!navigator.clipboard) say('It is in the address bar');
  else navigator.clipboard.writeText(link.href).then(() => say('Copied'), () => say('It is in the address bar'));
  return [];
}
