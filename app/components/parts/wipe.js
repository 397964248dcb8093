// The divider's place lives on the root, out of reach of the template, so it stays where it was when pictures change.
element.addEventListener('input', (event) => element.style.setProperty('--at', event.target.value + '%'));
