// A tab was opened: the address names it, in a new entry of the history, and charts that were drawn unseen take their width.
// While the page opens, its address is what the visitor asked for and stays: Gradio selects the first tab on its own.
(name) => {
  window.setTimeout(() => window.dispatchEvent(new Event('resize')), 50);
  if (!('opened' in document.documentElement.dataset)) return [];
  const store = window.ptq4dit, there = new URLSearchParams(store.search).get('tab') ?? 'start';
  const put = (query) => { if (name === 'start') query.delete('tab'); else query.set('tab', name); };
  store.write(put, there === name ? 'replaceState' : 'pushState', name === 'learn' ? window.location.hash : '');
  return [];
}
