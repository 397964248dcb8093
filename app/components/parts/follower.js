// Asks for a new drawing when the selection has moved: at once where it stands in the window; where it is scrolled away
// once it comes into sight or nothing else has moved for a while; and on a tab that nobody sees not before it opens.
const place = element.closest('.card') ?? element;
let drawn = '', waiting = 0, inSight = false;

function ask() {
  window.clearTimeout(waiting);
  const wanted = JSON.stringify(props.fields.map((name) => store.selection[name]));
  if (!element.offsetParent || store.selection.layer === undefined || wanted === drawn) return;
  drawn = wanted;
  props.value = { ...store.selection };
  trigger('select');
}

store.listen((news) => {
  if (!news.some((name) => props.fields.includes(name))) return;
  window.clearTimeout(waiting);
  if (inSight) ask();
  else waiting = window.setTimeout(ask, 800);
});
new ResizeObserver(ask).observe(element); // it has a width once its tab shows
new IntersectionObserver((seen) => {
  inSight = seen[seen.length - 1].isIntersecting;
  if (inSight) ask();
}).observe(place);
