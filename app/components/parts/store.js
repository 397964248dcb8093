// One selection for all parts of the page: who changes it tells the others at once, and the bar tells the server.
const store = (window.ptq4dit ??= (() => {
  const listeners = new Set();
  return {
    selection: {},
    about: {},
    set(patch) {
      const news = Object.keys(patch).filter((name) => patch[name] !== this.selection[name]);
      if (!news.length) return;
      this.selection = { ...this.selection, ...patch };
      if (!this.selection.csb) this.selection.ssc = false;
      for (const listener of listeners) listener(news);
    },
    listen(listener) { listeners.add(listener); },
  };
})());
