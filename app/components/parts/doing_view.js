// What was drawn of the pinned channel. It is dimmed as soon as the selection is another one, and gone with its model.
const box = part('.drawings');
let shown = null;

const card = (one) => `<figure data-card="${one.name}"><div class="picture"><img src="${one.src}" alt="${safe(one.alt)}"></div><figcaption><strong>${safe(one.title)}</strong>${safe(one.detail)}${one.db ? `<span><b>${safe(one.db)}</b> dB</span>` : ''}</figcaption>${one.difference ? `<img class="difference" src="${one.difference}" alt="${safe(one.difference_alt)}">` : ''}</figure>`;

function tellProgress(found) {
  const bar = part('.progress');
  bar.setAttribute('aria-valuenow', found.percent);
  bar.setAttribute('aria-valuetext', found.note);
  part('.track span').style.width = `${found.percent}%`;
  part('.note').textContent = found.note;
}

function hear() {
  const found = props.value;
  if (!found?.ticket || found.ticket !== store.doing?.ticket) return;
  box.hidden = false;
  tellProgress(found);
  store.told?.(found);
  if (found.problem) return;
  shown = found;
  madeFor = store.doing.asked;
  part('.shown').innerHTML = found.cards.map(card).join('');
  say('verdict', found.verdict);
  curve = found.curve;
  drawCurve();
  age();
  leave();
}

function leave() {
  if (madeFor.model === store.selection.model && store.selection.channel >= 0) return;
  box.hidden = true;
  shown = curve = null;
  part('.shown').innerHTML = '';
}

watch('value', hear);
store.listen(() => { if (shown) leave(); });
new ResizeObserver(() => drawCurve()).observe(element);
