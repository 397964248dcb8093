// Asks for a new drawing when the selection has moved, where it stands in the window or within a window's height of it;
// elsewhere, and on a tab that nobody sees, once it comes that near.
const place = element.closest('.card') ?? element;
let drawn = '', near = false;

function ask() {
  const wanted = JSON.stringify(props.fields.map((name) => store.selection[name]));
  if (!near || store.selection.layer === undefined || wanted === drawn) return;
  drawn = wanted;
  const said = props.linked.filter((name) => store.opened.has(name)).map((name) => [name, store.opened.get(name)]);
  props.value = { ...store.selection, link: Object.fromEntries(said) };
  trigger('select');
}

store.listen(ask);
new IntersectionObserver((seen) => {
  near = seen[seen.length - 1].isIntersecting;
  ask();
}, { rootMargin: '100% 0px' }).observe(place);
