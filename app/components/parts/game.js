element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-index]');
  if (button && !button.disabled) trigger('select', { index: Number(button.dataset.index) });
});
