// The page is open: from now on an opened tab goes to the address, and Back leads to the tab before, with the selection
// as it is now.
(titles, goTo) => {
  document.documentElement.dataset.opened = '';
  window.addEventListener('popstate', () => {
    const asked = new URLSearchParams(window.location.search).get('tab');
    const name = Object.hasOwn(titles, asked ?? '') ? asked : 'start';
    window.ptq4dit.write((query) => { if (name === 'start') query.delete('tab'); else query.set('tab', name); });
    goTo(titles[name]);
  });
  return [];
}
