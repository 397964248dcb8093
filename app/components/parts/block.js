// The drawn block: the selected layer stands out in it, and a click on another one selects that.
const layers = [...element.querySelectorAll('.layer')];
const parts = (layer) => /^blocks\.(\d+)\.(qkv|proj|fc1|fc2)$/.exec(layer ?? '');
const known = () => (store.about.layers ?? []).flatMap(([, few]) => few.map(([, value]) => value));

function show() {
  const chosen = known().length ? parts(store.selection.layer) : null;
  for (const layer of layers) layer.setAttribute('aria-pressed', String(layer.dataset.role === chosen?.[2]));
  element.querySelector('figcaption').textContent = chosen
    ? `One of the model's blocks; block ${chosen[1]} is selected. Press a layer to follow it through the lessons.`
    : known().length
      ? 'The block of the DiT, which the paper quantizes. The open model is built otherwise: its layers are in the bar above.'
      : 'The block of the DiT, which the paper quantizes. The layers of the open model are known once it is calibrated.';
}

function choose(role) {
  const chosen = parts(store.selection.layer), layer = `blocks.${chosen?.[1] ?? 0}.${role}`;
  if (known().includes(layer)) store.set({ layer });
}

element.addEventListener('click', (event) => { const layer = event.target.closest('.layer'); if (layer) choose(layer.dataset.role); });
element.addEventListener('keydown', (event) => {
  const layer = event.target.closest('.layer');
  if (!layer || (event.key !== 'Enter' && event.key !== ' ')) return;
  event.preventDefault();
  choose(layer.dataset.role);
});
store.listen((news) => { if (news.includes('layer') || news.includes('model')) show(); });
show();
