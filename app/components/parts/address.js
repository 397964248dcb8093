// Keeps the page's address in step with what is chosen: only what differs from the default is written.
(defaults, values) => {
  window.ptq4dit.write((query) => Object.entries(defaults).forEach(([name, usual], i) => {
    const value = values[i];
    const text = typeof value === 'boolean' ? (value ? '1' : '0') : String(value ?? usual);
    if (text === usual) query.delete(name);
    else query.set(name, text);
  }));
  return [];
}
