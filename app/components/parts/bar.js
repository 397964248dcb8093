// The selection bar: its fields and the page's one selection, both ways; the server hears 'select' once things rest.
const fields = [...element.querySelectorAll('[data-field]')];
const search = element.querySelector('[data-search]');
const field = (name) => element.querySelector(`[data-field="${name}"]`);
const REST = 40; // milliseconds without a change after which the server is told
const ECHO = 3000; // milliseconds within which a busy page echoes what it was told
const FEW = 24; // classes that a menu shows; more are searched by name
const models = { [props.about.name]: Promise.resolve(props.about) };
const more = element.querySelector('#bar-more');
let about = null; // the model whose layers, classes or prompts the fields offer
let waiting = 0;
let told = ''; // the selection that the page and the bar last agreed on
let sent = []; // what the page was told lately: its echo may come when something else has been chosen already
let wanted = ''; // the model that was chosen and is not here yet

const plain = (text) => String(text).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);
const option = (text, value) => `<option value="${plain(value)}">${plain(text)}</option>`;
const named = (id) => about.labels[id] ?? '';

function modelOf(name) {
  models[name] ??= server.model(name).then((found) => { if (found.problem) throw new Error(found.problem); return found; });
  models[name].catch(() => { delete models[name]; });
  return models[name];
}

// Offer what a model has: its layers by block; its classes in a menu, or where they are many in a search; or a prompt.
function offer(model) {
  about = model;
  store.about = model;
  field('layer').innerHTML = model.layers.map(([title, few]) => `<optgroup label="${plain(title)}">${few.map(([text, value]) => option(text, value)).join('')}</optgroup>`).join('') || option('not calibrated yet', '');
  field('class_id').innerHTML = model.labels.length > FEW ? '' : model.labels.map((label, i) => option(label, i)).join('');
  element.querySelector('#bar-classes').innerHTML = model.labels.length > FEW ? model.labels.map((label, i) => option(`class ${i}`, label)).join('') : '';
  element.querySelector('#bar-prompt').innerHTML = model.prompts.map((prompt) => option('', prompt)).join('');
  element.querySelector('.class_id').hidden = model.prompted || model.labels.length > FEW;
  element.querySelector('.classes').hidden = model.prompted || model.labels.length <= FEW;
  element.querySelector('.prompt').hidden = !model.prompted;
}

function show() {
  for (const one of fields) {
    const value = one.dataset.field === 'model' && wanted ? wanted : store.selection[one.dataset.field];
    if (one.type === 'checkbox') one.checked = Boolean(value);
    else if (document.activeElement !== one || one.tagName === 'SELECT' || (one.type === 'number' && Number(one.value) !== value))
      one.value = one.dataset.field === 'channel' && value < 0 ? '' : String(value ?? '');
    if (one.dataset.field === 'ssc') one.disabled = !store.selection.csb;
    if (one.dataset.field === 'layer' && about && !about.layers.length) one.value = '';
  }
  more.querySelector('b').textContent = store.selection.layer || store.selection.model;
  if (document.activeElement !== search) search.value = named(store.selection.class_id);
}

function read(one) {
  if (one.type === 'checkbox') return one.checked;
  if (one.tagName === 'SELECT' && one.value === '') return store.selection[one.dataset.field];
  if (one.tagName === 'SELECT') return typeof store.selection[one.dataset.field] === 'number' ? Number(one.value) : one.value;
  if (one.type === 'text') return one.value.trim().replace(/\s+/g, ' ') || store.selection[one.dataset.field];
  if (one.value === '') return one.dataset.field === 'channel' ? -1 : store.selection[one.dataset.field];
  const number = Math.round(Number(one.value));
  return Math.min(Math.max(number, Number(one.min)), Number(one.max));
}

// Another model: what it can show comes first, then all that follows the selection moves at once.
async function choose(name) {
  wanted = name;
  try {
    const model = await modelOf(name);
    if (wanted !== name) return; // yet another one was chosen meanwhile
    wanted = '';
    offer(model);
    store.set({ model: name, ...model.opens });
  } catch (problem) {
    wanted = '';
    field('model').title = problem.message;
    show();
  }
}

function take(one) {
  if (one.dataset.field === 'model') choose(one.value);
  else store.set({ [one.dataset.field]: read(one) });
}

function find() {
  const wanted = search.value.trim().toLowerCase(), exact = about.labels.findIndex((label) => label.toLowerCase() === wanted);
  const close = exact >= 0 || !wanted ? exact : about.labels.findIndex((label) => label.toLowerCase().includes(wanted));
  if (close >= 0) store.set({ class_id: close });
}

element.addEventListener('change', (event) => {
  const one = event.target.closest('[data-field]');
  if (one && one.tagName !== 'SELECT') take(one);
  if (event.target === search) { find(); search.blur(); }
  show();
});
element.addEventListener('input', (event) => {
  const one = event.target.closest('select, input[type="checkbox"]');
  if (one) take(one);
});
element.querySelector('#copy-link').addEventListener('click', () => { tell(); trigger('copy'); });

// On a phone the rest of the bar is a sheet: the button opens and shuts it, and so does Escape.
const open = (is) => more.setAttribute('aria-expanded', String(is));
more.addEventListener('click', () => open(more.getAttribute('aria-expanded') !== 'true'));
element.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || more.getAttribute('aria-expanded') !== 'true') return;
  open(false);
  more.focus();
});

const inWords = (selection) => JSON.stringify(Object.entries(selection).sort());

function tell() {
  window.clearTimeout(waiting);
  if (inWords(store.selection) === told) return;
  told = inWords(store.selection);
  const one = told;
  sent.push(one);
  window.setTimeout(() => { sent = sent.filter((other) => other !== one); }, ECHO);
  props.value = { ...store.selection };
  trigger('select');
}

store.listen(() => {
  show();
  window.clearTimeout(waiting);
  waiting = window.setTimeout(tell, REST);
});

function agree(said) {
  told = inWords(said);
  sent = [];
  store.set(said);
  show();
}

// The page says what is chosen, as when a link was opened: of another model its layers and classes have to come first.
async function hear() {
  const said = { ...props.value };
  if (inWords(said) === told || sent.includes(inWords(said))) return; // an echo: something else may be chosen since
  if (said.model && said.model !== about?.name) {
    try { offer(await modelOf(said.model)); } catch (problem) { return; }
  }
  agree(said);
}
watch('value', hear);
// A link may name another model than the one that the page is built with: then nothing of that one is shown meanwhile.
const linked = new URLSearchParams(window.location.search).get('model');
if (linked && linked !== props.about.name && [...field('model').options].some((one) => one.value === linked)) {
  about = props.about;
} else {
  offer(props.about);
  agree({ ...props.value });
}
