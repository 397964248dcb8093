// What the page's link says of a tab's own controls, for the handler that sets them when the tab opens.
const query = new URLSearchParams(window.location.search);
props.value = Object.fromEntries(props.names.filter((name) => query.has(name)).map((name) => [name, query.get(name)]));
