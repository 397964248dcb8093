element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-name]');
  if (button && !button.disabled) trigger('select', { name: button.dataset.name, to: button.dataset.value });
});
