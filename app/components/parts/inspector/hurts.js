// What hurts the picture: measured with one layer rounded and all others in float; where that is missing, said in place.
let hurt = { values: null, told: '' };
const measureOf = (name) => (name === 'hurts' ? hurt.values : overview?.measures[name]);

async function askHurts() {
  const { model, weight_bits: w, csb, ssc, strength } = store.selection, mine = JSON.stringify([model, w, csb, ssc, strength]);
  let found;
  try { found = await ask('hurts', model, w, csb, ssc, strength); } catch (problem) { found = { values: null, told: problem.message }; }
  const now = store.selection;
  if (mine !== JSON.stringify([now.model, now.weight_bits, now.csb, now.ssc, now.strength])) return;
  hurt = found;
  tellHurts();
  drawMap();
}

// Nothing of another model, dial or number of bits stays while the right numbers are on their way.
function forgetHurts(news) {
  if (!news.some((name) => ['model', 'strength', 'weight_bits'].includes(name))) return;
  hurt = { values: null, told: '' };
  tellHurts();
}

function tellHurts() {
  part('[data-reading="hurts"]').hidden = look.measure !== 'hurts';
  say('hurts', hurt.told);
}
