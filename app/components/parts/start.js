// Start: every stored picture of an example is here before a switch is pressed, so nothing waits for the server.
const tables = { ...props.tables };
let wanted = '';

const choiceOf = (selection) => ({
  bits: props.nearest.bits[`${selection.weight_bits},${selection.activation_bits}`],
  strength: props.nearest.strength[selection.strength],
  csb: selection.csb,
  ssc: selection.csb && selection.ssc,
});
const keyOf = ({ bits, strength, csb, ssc }) => `${bits}/x${strength}/${csb ? (ssc ? 'csb+ssc' : 'csb') : 'none'}`;

function exampleOf(selection) {
  const found = props.examples.findIndex((one) => one.class_id === selection.class_id && one.seed === selection.seed);
  return found < 0 ? props.value.chosen : found;
}

function remarkOn(selection, choice, index) {
  const settings = [`W${selection.weight_bits}A${selection.activation_bits}, salience x ${selection.strength}`, `${choice.bits}, salience x ${choice.strength}`];
  const { class_id, seed } = props.examples[index];
  const pictures = [[selection.class_id, selection.seed], [class_id, seed]].map(([id, noise]) => `${props.labels[id] ?? id} from seed ${noise}`);
  const [asked, shown] = [settings, pictures].filter(([one, other]) => one !== other).reduce(([a, b], [one, other]) => [[...a, one], [...b, other]], [[], []]);
  return asked.length ? `${asked.join(', ')} is not stored, so this shows ${shown.join(', ')}. Compare makes anything live.` : '';
}

async function tableOf(index) {
  return (tables[index] ??= await server.example(index));
}

async function show() {
  const { selection } = store;
  if (selection.weight_bits === undefined) return;
  const choice = choiceOf(selection), index = exampleOf(selection), remark = remarkOn(selection, choice, index);
  const mine = (wanted = JSON.stringify([index, choice, remark]));
  const table = tables[index] ?? (await tableOf(index));
  if (mine !== wanted) return; // something else was chosen while this example was on its way
  props.value = {
    ...props.value,
    ...table.views[keyOf(choice)],
    left: table.left,
    chosen: index,
    remark,
    csb: { on: String(choice.csb) },
    ssc: { on: String(choice.ssc), off: !choice.csb },
    choices: props.value.choices.map((row) => ({ ...row, options: row.options.map((one) => ({ ...one, chosen: String(choice[one.name] === one.value) })) })),
    items: props.value.items.map((one, i) => ({ ...one, chosen: String(i === index) })),
  };
}

function press(name, value) {
  if (name === 'csb' || name === 'ssc') return { [name]: !store.selection[name] };
  if (name === 'strength') return { strength: Number(value) };
  const [weight_bits, activation_bits] = value.slice(1).split('A').map(Number);
  return { weight_bits, activation_bits };
}

element.addEventListener('input', (event) => element.style.setProperty('--at', event.target.value + '%'));
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button || button.disabled) return;
  if (button.dataset.index) store.set({ class_id: props.examples[button.dataset.index].class_id, seed: props.examples[button.dataset.index].seed });
  else if (button.dataset.name) store.set(press(button.dataset.name, button.dataset.value));
});
store.listen(show);
show();
// The other examples follow one by one once the page rests, each with all its pictures.
window.setTimeout(async () => { for (const i of props.examples.keys()) await tableOf(i); }, 1500);
