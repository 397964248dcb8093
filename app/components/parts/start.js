// Start: every stored picture of an example is here before a switch is pressed, so nothing waits for the server.
const nothing = { ...props.value, left: { src: '', name: '', alt: '' }, right: { src: '', name: '', alt: '' }, rows: [], choices: [], items: [], number: '', unit: '', sentence: '', caption: '', source: '', remark: '', problem: '', word: '', grade: '', ladder: [], dial: {} };
const kept = { [props.model]: Promise.resolve(props.stored) }; // what is stored, by model
let shownOf = props.model; // the model that the part shows
let wanted = '';
let opened = false; // whether the visitor has opened how the pictures were made

const choiceOf = (stored, selection) => ({
  bits: stored.nearest.bits[`${selection.weight_bits},${selection.activation_bits}`],
  strength: stored.nearest.strength[selection.strength],
  csb: selection.csb,
  ssc: selection.csb && selection.ssc,
  tokens: Boolean(selection.tokens && stored.tokens),
});
const wayOf = ({ csb, ssc }) => (csb ? (ssc ? 'csb+ssc' : 'csb') : 'none');
const keyOf = (choice) => `${choice.bits}/x${choice.strength}/${wayOf(choice)}${choice.tokens ? '/token' : ''}`;
const marked = (curve, at) => (curve ? { ...curve, points: curve.points.map((one) => ({ ...one, here: String(one.value === at) })), here: curve.points.find((one) => one.value === at) } : {});
const isOf = (one, selection) => one.seed === selection.seed && (one.class_id === null ? one.prompt === selection.prompt : one.class_id === selection.class_id);

function storedOf(model) {
  kept[model] ??= server.examples(model);
  kept[model].then((stored) => { if (stored.problem) delete kept[model]; }, () => { delete kept[model]; }); // it may be made meanwhile
  return kept[model];
}

function exampleOf(stored, selection, chosen) {
  const found = stored.examples.findIndex((one) => isOf(one, selection));
  return found < 0 ? chosen : found;
}

function remarkOn(stored, selection, choice, index) {
  const scales = (tokens) => (tokens ? ', a scale for every token' : '');
  const settings = [`W${selection.weight_bits}A${selection.activation_bits}, salience x ${selection.strength}${scales(selection.tokens)}`, `${choice.bits}, salience x ${choice.strength}${scales(choice.tokens)}`];
  const one = stored.examples[index];
  const asked = one.class_id === null ? `“${selection.prompt}”` : store.about.labels?.[selection.class_id] ?? selection.class_id;
  const pictures = [`${asked} from seed ${selection.seed}`, `${one.class_id === null ? `“${one.title}”` : one.title} from seed ${one.seed}`];
  const [wants, has] = [settings, isOf(one, selection) ? ['', ''] : pictures].filter(([a, b]) => a !== b).reduce(([a, b], [x, y]) => [[...a, x], [...b, y]], [[], []]);
  return wants.length ? `${wants.join(', ')} is not stored, so this shows ${has.join(', ')}. Compare makes anything live.` : '';
}

async function tableOf(model, stored, index) {
  if (stored.tables[index]) return stored.tables[index];
  const table = await server.example([model, index]);
  if (table.problem) throw new Error(table.problem);
  return (stored.tables[index] = table);
}

async function show() {
  const { selection } = store;
  if (selection.weight_bits === undefined) return;
  const model = selection.model, asked = (wanted = JSON.stringify(selection));
  if (model !== shownOf) { props.value = nothing; shownOf = ''; } // not one picture of another model stays
  try {
    const stored = await storedOf(model);
    if (stored.problem) throw new Error(stored.problem);
    const choice = choiceOf(stored, selection), before = shownOf === model ? props.value : stored.opening;
    const index = exampleOf(stored, selection, before.chosen), table = await tableOf(model, stored, index);
    if (asked !== wanted) return; // something else was chosen while this was on its way
    shownOf = model;
    props.value = {
      ...before,
      ...table.views[keyOf(choice)],
      opened,
      left: table.left,
      chosen: index,
      remark: remarkOn(stored, selection, choice, index),
      csb: { on: String(choice.csb) },
      ssc: { on: String(choice.ssc), off: !choice.csb },
      tokens: { on: String(choice.tokens), off: !stored.tokens },
      dial: marked(stored.dials[choice.bits + (choice.tokens ? '/token' : '')], `${choice.strength}/${wayOf(choice)}`),
      choices: before.choices.map((row) => ({ ...row, options: row.options.map((one) => ({ ...one, chosen: String(choice[one.name] === one.value) })) })),
      items: before.items.map((one, i) => ({ ...one, chosen: String(i === index) })),
    };
  } catch (problem) {
    if (asked === wanted) { props.value = { ...nothing, problem: problem.message }; shownOf = ''; }
  }
}

// What a switch changes is seen to change: the new picture comes into focus.
function focusIn() {
  const picture = element.querySelector('.wipe-part img.under');
  if (!window.matchMedia('(prefers-reduced-motion: reduce)').matches) picture?.animate([{ filter: 'blur(8px)' }, { filter: 'blur(0)' }], 450);
}

function press(name, value) {
  if (name === 'balance') return { csb: !store.selection.csb, ssc: !store.selection.csb };
  if (['csb', 'ssc', 'tokens'].includes(name)) return { [name]: !store.selection[name] };
  if (name === 'point') {
    const [strength, way] = value.split('/');
    return { strength: Number(strength), csb: way !== 'none', ssc: way === 'csb+ssc' };
  }
  if (name === 'strength') return { strength: Number(value) };
  const [weight_bits, activation_bits] = value.slice(1).split('A').map(Number);
  return { weight_bits, activation_bits };
}

async function pick(index) {
  const { class_id, prompt, seed } = (await storedOf(store.selection.model)).examples[index];
  store.set(class_id === null ? { prompt, seed } : { class_id, seed });
}

element.addEventListener('toggle', (event) => { opened = event.target.open; }, true);
element.addEventListener('input', (event) => element.style.setProperty('--at', event.target.value + '%'));
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button || button.disabled) return;
  if (button.dataset.index) pick(button.dataset.index);
  else if (button.dataset.name || button.dataset.do) {
    focusIn();
    store.set(press(button.dataset.name ?? button.dataset.do, button.dataset.value));
  }
});
if ((new URLSearchParams(window.location.search).get('model') ?? props.model) !== props.model) { props.value = nothing; shownOf = ''; }
// Who comes to Start without a wish sees a damaged picture first, and one button that mends it.
const query = new URLSearchParams(window.location.search);
let untold = [...query.keys()].every((name) => name.startsWith('__')) && props.stored.telling;
function tell() {
  if (!untold || store.selection.weight_bits === undefined) return;
  const telling = untold;
  untold = null;
  store.set(telling);
}
store.listen((news) => { tell(); show(); if (news.includes('model')) window.setTimeout(ahead, 1500); });
tell();
show();
// The other examples follow one by one once the page rests, each with all its pictures.
async function ahead() {
  const { model } = store.selection, stored = model && await storedOf(model);
  if (!stored || stored.problem) return;
  for (const i of stored.examples.keys()) if (store.selection.model === model) await tableOf(model, stored, i).catch(() => null);
}
window.setTimeout(ahead, 1500);
