// Copies the address of the view; where the browser refuses, the address bar holds it all the same.
() => {
  const button = document.getElementById('copy-link');
  const say = (text) => {
    button.textContent = text;
    setTimeout(() => { button.textContent = 'Copy link'; }, 1600);
  };
  if (!navigator.clipboard) say('It is in the address bar');
  else navigator.clipboard.writeText(window.location.href).then(() => say('Copied'), () => say('It is in the address bar'));
  return [];
}
