// What is drawn: a class, found by its name, or a prompt; with examples to click. It is the bar's selection, in more room.
const EXAMPLES = 12;
const search = element.querySelector('[data-search]'), prompt = element.querySelector('[data-prompt]');
const examples = element.querySelector('.examples');
const plain = (text) => String(text).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);
let shownOf = null;

function offer() {
  const { about } = store;
  shownOf = about;
  element.querySelector('.classes').hidden = about.prompted;
  element.querySelector('.prompt').hidden = !about.prompted;
  element.querySelector('#subject-classes').innerHTML = about.labels.map((label) => `<option value="${plain(label)}"></option>`).join('');
  const few = about.prompted ? about.prompts : about.labels.length > EXAMPLES ? [] : about.labels;
  examples.innerHTML = few.map((text, i) => `<button type="button" data-index="${i}">${plain(text)}</button>`).join('');
}

function show() {
  const { about, selection } = store;
  if (!about.labels) return;
  if (about !== shownOf) offer();
  if (document.activeElement !== search) search.value = about.labels[selection.class_id] ?? '';
  if (document.activeElement !== prompt) prompt.value = selection.prompt ?? '';
  for (const button of examples.children) {
    const i = Number(button.dataset.index);
    button.setAttribute('aria-pressed', String(about.prompted ? about.prompts[i] === selection.prompt : i === selection.class_id));
  }
}

function find() {
  const wanted = search.value.trim().toLowerCase(), { labels } = store.about;
  const exact = labels.findIndex((label) => label.toLowerCase() === wanted);
  const close = exact >= 0 || !wanted ? exact : labels.findIndex((label) => label.toLowerCase().includes(wanted));
  if (close >= 0) store.set({ class_id: close });
}

search.addEventListener('change', () => { find(); search.blur(); show(); });
search.addEventListener('focus', () => search.select());
prompt.addEventListener('change', () => {
  const text = prompt.value.trim().replace(/\s+/g, ' ');
  if (text) store.set({ prompt: text });
});
examples.addEventListener('click', (event) => {
  const button = event.target.closest('[data-index]');
  if (button) store.set(store.about.prompted ? { prompt: store.about.prompts[button.dataset.index] } : { class_id: Number(button.dataset.index) });
});
store.listen(show);
show();
