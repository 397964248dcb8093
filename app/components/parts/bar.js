// The selection bar: its fields and the page's one selection, both ways; the server hears 'select' once things rest.
const fields = [...element.querySelectorAll('[data-field]')];
const REST = 40; // milliseconds without a change after which the server is told
let waiting = 0;

function show() {
  for (const field of fields) {
    const value = store.selection[field.dataset.field];
    if (field.type === 'checkbox') field.checked = Boolean(value);
    else if (document.activeElement !== field || field.tagName === 'SELECT' || Number(field.value) !== value)
      field.value = field.dataset.field === 'channel' && value < 0 ? '' : String(value ?? '');
    if (field.dataset.field === 'ssc') field.disabled = !store.selection.csb;
  }
}

function read(field) {
  if (field.type === 'checkbox') return field.checked;
  if (field.tagName === 'SELECT') return typeof store.selection[field.dataset.field] === 'number' ? Number(field.value) : field.value;
  if (field.value === '') return field.dataset.field === 'channel' ? -1 : store.selection[field.dataset.field];
  const number = Math.round(Number(field.value));
  return Math.min(Math.max(number, Number(field.min)), Number(field.max));
}

element.addEventListener('change', (event) => {
  const field = event.target.closest('[data-field]');
  if (field) store.set({ [field.dataset.field]: read(field) });
  show();
});
element.addEventListener('input', (event) => {
  const field = event.target.closest('select, input[type="checkbox"]');
  if (field) store.set({ [field.dataset.field]: read(field) });
});
element.querySelector('#copy-link').addEventListener('click', () => { tell(); trigger('copy'); });

function tell() {
  window.clearTimeout(waiting);
  if (JSON.stringify(props.value) === JSON.stringify(store.selection)) return;
  props.value = { ...store.selection };
  trigger('select');
}

store.listen((_news, from) => {
  show();
  if (from === 'page') return;
  window.clearTimeout(waiting);
  waiting = window.setTimeout(tell, REST);
});
watch('value', () => { store.set({ ...props.value }, 'page'); show(); });
store.set({ ...props.value }, 'page');
show();
