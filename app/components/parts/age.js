// What was made stays in sight, and is dimmed once the page asks for something else. `props.value.asked` says by name
// what the page has to say for it to be as asked; a value without it was made for the same as the one before.
let madeFor = {};
const nowSays = (name) => store.selection[name] ?? store.own[name];
function age() {
  madeFor = props.value?.asked ?? madeFor;
  const moved = ([name, value]) => nowSays(name) !== undefined && String(nowSays(name)) !== String(value);
  element.classList.toggle('old', Object.entries(madeFor).some(moved));
}
watch('value', age);
store.listen(age);
age();
