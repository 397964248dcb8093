// The reference: one pinned view, drawn quietly beneath what is on show; both are named, and the link carries it.
const KINDS = { layer: String, model: String, csb: (text) => text === '1', ssc: (text) => text === '1', tokens: (text) => text === '1' };
let other = null; // the reference's view, decoded layer and effect, once they are here
let sought = '', trouble = '';

const refer = (view) => props.referred.map((name) => (typeof view[name] === 'boolean' ? Number(view[name]) : view[name])).join('~');
const referred = (text) => Object.fromEntries(text.split('~').map((part, i) => [props.referred[i], (KINDS[props.referred[i]] ?? Number)(part)]));
const wayOf = (view, of) => (!view.csb || of?.balanced === false ? 'none' : view.ssc ? 'csb+ssc' : 'csb');
const bitsOf = (view) => `W${view.weight_bits}A${view.activation_bits}${view.tokens ? ', a scale for every token' : ''}`;
const nearestOf = (view, of) => of.marks.reduce((best, t, i) => (Math.abs(t - view.timestep) < Math.abs(of.marks[best] - view.timestep) ? i : best), 0);

const referredTo = (name) => other !== null && other.view.model === store.selection.model && other.view.layer === name;

// A view in words: all of it, or what sets it apart from another one.
function viewInWords(view, of, from) {
  const said = { model: view.model, layer: view.layer, timestep: `timestep ${of ? of.timesteps[nearestOf(view, of)] : view.timestep}`, bits: bitsOf(view), way: VARIANTS[wayOf(view, of)], dial: `salience x ${view.strength}` };
  if (!from) return Object.values(said).join(', ');
  const same = { model: view.model === from.model, layer: view.layer === from.layer, timestep: of ? of.timesteps[nearestOf(view, of)] === layer.timesteps[at()] : view.timestep === from.timestep, bits: bitsOf(view) === bitsOf(from), way: wayOf(view, of) === variant(), dial: view.strength === from.strength };
  return Object.keys(said).filter((name) => !same[name]).map((name) => said[name]).join(', ') || 'the same view';
}

const quietKey = (more = '') => (other ? [[`reference: ${viewInWords(other.view, other.layer, store.selection)}${more}`, null]] : []);
const overlaid = () => other !== null && other.layer.channels === layer.channels;
const otherWay = () => wayOf(other.view, other.layer);

// Its two saliences as its own switches leave them, channel by channel; none where its channels are not this layer's in number.
function otherChannels(stage = 'both') {
  if (!other) return null;
  const of = other.layer, activation = look.span === 'all' ? of.most : of.rows[nearestOf(other.view, of)];
  const b = stage === 'before' ? null : of.factors[otherWay()];
  return b ? { activation: activation.map((x, j) => x * b[j]), weight: of.weight.map((x, j) => x / b[j]) } : { activation, weight: of.weight };
}

// Where one of its timesteps stands between those on show, counted in columns.
function columnOf(mark) {
  const { marks } = layer, last = marks.length - 1;
  const after = marks.findIndex((t) => t <= mark);
  if (after < 0) return last;
  return after === 0 ? 0 : after - (mark - marks[after]) / (marks[after - 1] - marks[after]);
}

const quietLine = (values, x, y, kind = 'quiet') => `<path class="${kind}" d="${values.map((v, i) => `${i ? 'L' : 'M'}${x(columnOf(other.layer.marks[i]) + 0.5).toFixed(1)} ${y(v).toFixed(1)}`).join('')}"/>`;
const quietHere = (x, top, bottom) => { const at = x(columnOf(other.layer.marks[nearestOf(other.view, other.layer)]) + 0.5); return rule(at, top, at, bottom, 'quiet'); };

// Over rho, eta and all timesteps; of what is balanced rho both before and after.
const quietTime = (x, y, bar, top, bottom) => (!other ? '' : quietLine(other.layer.rho.none, x, y) + (otherWay() === 'none' ? '' : quietLine(other.layer.rho[otherWay()], x, y, 'quiet fine')) + quietLine(other.layer.eta, x, bar) + quietHere(x, top, bottom));

// What cannot be laid over each other, and what does not differ, said.
function comparison() {
  const { view, layer: of } = other, said = [], sameSite = view.model === store.selection.model && view.layer === layer.layer;
  if (!overlaid()) said.push(`The reference reads ${of.channels} input channels and this layer ${layer.channels}, so no channel stands beside another: channels and their errors show what is chosen alone.`);
  else if (!sameSite) said.push('Channels are laid over each other by number; the same number in another layer is another channel.');
  if (sameSite && view.strength === store.selection.strength) said.push('It is the same layer: rho before balancing and eta coincide.');
  if (of.marks.join() !== layer.marks.join()) said.push(`It was calibrated at ${of.timesteps.length} timesteps, this one at ${layer.timesteps.length}: its lines stand where its timesteps are, and each eta adds up to 1 over its own.`);
  said.push('The map of salience over time shows what is chosen alone.');
  return said.join(' ');
}

function tellReference() {
  const { selection } = store, is = Boolean(selection.reference), view = is ? referred(selection.reference) : null;
  const box = part('.compared');
  box.querySelector('[data-do="pin"]').textContent = is ? 'Pin this instead' : 'Pin as reference';
  box.querySelector('[data-do="pin"]').disabled = !layer || refer(selection) === selection.reference;
  box.querySelector('[data-do="unpin"]').hidden = !is;
  box.querySelector('[data-do="swap"]').hidden = !view || !other || view.model !== selection.model;
  const on = layer ? viewInWords(selection, layer) : '';
  box.querySelector('.both').innerHTML = is ? key([[`on show: ${on}`, COLOUR.activation], [`reference: ${viewInWords(view, other?.layer)}`, null]]) : '';
  const hint = 'Pin what is on show, then choose another layer, timestep, method or model: the charts overlay both.';
  say('reference', is && trouble ? `The reference cannot be shown. ${trouble}` : !is ? hint : other && layer ? comparison() : 'The reference is being fetched.');
}

async function followReference() {
  const text = store.selection.reference ?? '';
  if (!element.offsetParent || (text === sought && (other || !text))) return;
  sought = text;
  trouble = '';
  other = null;
  if (!text) { drawMap(); drawAll(); return; }
  const view = referred(text), mine = () => text === sought;
  try {
    const found = decode(await ask('layer', view.model, view.layer, view.strength));
    if (!mine()) return;
    other = { view, layer: found, effect: null };
    drawMap();
    drawAll();
    const known = await ask('effect', view.model, view.layer, view.weight_bits, view.activation_bits, view.strength, view.tokens);
    if (!mine()) return;
    other = { ...other, effect: known };
    drawEffect();
  } catch (problem) {
    if (mine()) { sought = ''; trouble = problem.message; tellReference(); }
  }
}

part('.compared').addEventListener('click', (event) => {
  const button = event.target.closest('[data-do]'), { selection } = store;
  if (!button || !layer) return;
  if (button.dataset.do === 'code') copyCode(button, asCode(props.code, selection, pinned() >= 0 ? pinned() : topOf(shown.activation, 1)[0]));
  if (button.dataset.do === 'pin') store.set({ reference: refer(selection) });
  if (button.dataset.do === 'unpin') store.set({ reference: '' });
  if (button.dataset.do === 'swap') store.set({ ...referred(selection.reference), reference: refer(selection) });
  if (button.hidden || button.disabled) part('.compared button:not([hidden]):not(:disabled)').focus();
});
