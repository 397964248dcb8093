// A program in the visitor's hands: it follows the selection, and is copied with one click.
const place = element.querySelector('code'), copy = element.querySelector('button');

function show() {
  if (store.selection.layer !== undefined) place.textContent = asCode(props.code, store.selection);
}

copy.addEventListener('click', () => copyCode(copy, place.textContent));
store.listen(show);
show();
