// One selection for all parts of the page: who changes it tells the others at once, and the bar tells the server.
// Beside it what a tab's own controls say, and the page's address, in which all of it stands.
const store = (window.ptq4dit ??= (() => {
  const listeners = new Set();
  const tell = (news, from) => { for (const listener of listeners) listener(news, from); };
  return {
    selection: {},
    own: {},
    about: {},
    ssc: false, // as it last was with CSB on
    search: window.location.search,
    opened: new URLSearchParams(window.location.search), // the link that the page was opened with
    set(given, from) {
      // CSB switched off takes SSC along, and brings it back as it was.
      const patch = 'csb' in given && !('ssc' in given) ? { ...given, ssc: Boolean(given.csb && this.ssc) } : given;
      const news = Object.keys(patch).filter((name) => patch[name] !== this.selection[name]);
      if (!news.length) return;
      this.selection = { ...this.selection, ...patch };
      if (this.selection.csb) this.ssc = this.selection.ssc;
      else this.selection.ssc = false;
      tell(news, from);
    },
    say(own) {
      const news = Object.keys(own).filter((name) => own[name] !== this.own[name]);
      Object.assign(this.own, own);
      if (news.length) tell(news, 'own');
    },
    // Change the page's address, by a new entry of the history with 'pushState'. What it says is kept here, for going
    // Back leads to an older address and to the selection of today.
    write(change, way = 'replaceState', hash = window.location.hash) {
      const query = new URLSearchParams(this.search);
      change(query);
      const search = query.toString();
      this.search = search ? `?${search}` : '';
      window.history[way](null, '', window.location.pathname + this.search + hash);
    },
    listen(listener) { listeners.add(listener); },
  };
})());
