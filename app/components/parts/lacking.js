// What the chosen model lacks and how it is made. While it is made, how far that is; once it is, the page is read anew.
const box = element.querySelector('.lacking'), find = (selector) => box.querySelector(selector);
const SOON = 1500, LATER = 4000; // milliseconds between two questions: while it is made; until its cost is known
let model = '', waiting = 0, wasMaking = false;

function show(found) {
  const job = found.job, making = Boolean(job && !job.ended);
  box.hidden = !found.told && !making;
  find('.told').textContent = found.told;
  find('.how').hidden = !found.command || making;
  find('code').textContent = found.command;
  find('.cost').textContent = found.cost ? `(${found.cost})` : found.command ? '(how long it takes is said once the model is loaded)' : '';
  find('.making').hidden = !making && !(job && job.ended && job.ended !== 'done');
  find('progress').hidden = !making;
  find('progress').value = job?.percent ?? 0;
  find('.stage').textContent = !job ? '' : making ? `${job.stage}, ${job.percent} %` : job.ended === 'cancelled' ? 'Cancelled. What was finished is kept.' : job.ended;
  find('[data-do="prepare"]').hidden = !found.owner || making;
  find('[data-do="cancel"]').hidden = !making;
  if (wasMaking && job?.ended === 'done') window.location.reload();
  wasMaking = making;
  return making;
}

async function ask() {
  window.clearTimeout(waiting);
  const mine = (model = store.selection.model);
  if (!mine) return;
  let found;
  try { found = await server.lacking(mine); } catch (problem) { return; }
  if (mine !== store.selection.model) return;
  if (found.problem) found = { told: found.problem, command: '', cost: '', owner: false, job: null };
  const making = show(found);
  if (making || (found.command && !found.cost)) waiting = window.setTimeout(ask, making ? SOON : LATER);
}

box.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-do]');
  if (!button) return;
  const answer = await server[button.dataset.do](store.selection.model);
  if (answer.problem) { find('.making').hidden = false; find('.stage').textContent = answer.problem; } else ask();
});
store.listen((news) => { if (news.includes('model')) { wasMaking = false; ask(); } });
ask();
