// The program that asks for what the page shows: the template with the selection's values as Python writes them.
const literal = (value) => (typeof value === 'boolean' ? (value ? 'True' : 'False') : JSON.stringify(value));

function asCode(template, selection, channel) {
  const bits = `W${selection.weight_bits}A${selection.activation_bits}`, { origin, pathname } = window.location;
  const holes = { ...selection, address: origin + pathname, bits, rounded: bits === 'W16A16' ? 'W8A8' : bits, channel: Math.max(channel ?? selection.channel, 0) };
  return template.replace(/«(\w+)»/g, (_, name) => literal(holes[name]));
}

function copyCode(button, text) {
  const usual = button.textContent, say = (words) => {
    button.textContent = words;
    window.setTimeout(() => { button.textContent = usual; }, 1600);
  };
  if (!navigator.clipboard) say('It stands on Data & API');
  else navigator.clipboard.writeText(text).then(() => say('Copied'), () => say('It stands on Data & API'));
}
