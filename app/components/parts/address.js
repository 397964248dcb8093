// Keeps the page's address in step with the selection: only what differs from the default is written.
(defaults, values) => {
  const query = new URLSearchParams(window.location.search);
  Object.entries(defaults).forEach(([name, usual], i) => {
    const value = values[i];
    const text = typeof value === 'boolean' ? (value ? '1' : '0') : String(value ?? usual);
    if (text === usual) query.delete(name);
    else query.set(name, text);
  });
  const search = query.toString();
  window.history.replaceState(null, '', window.location.pathname + (search ? '?' + search : '') + window.location.hash);
  return [];
}
