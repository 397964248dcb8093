// The last page: how many predictions were right, what each lesson said, and which to look at again.
const find = (selector) => element.querySelector(selector);
const items = () => [...element.querySelectorAll('li[data-lesson]')];

function score(marks) {
  const right = marks.filter((mark) => mark === 'right').length, open = marks.filter((mark) => !mark).length;
  if (open === marks.length) return 'Nothing predicted yet: every lesson asks one question.';
  const sofar = `You predicted ${right} of ${marks.length - open} right`;
  if (open) return `${sofar}; ${open} ${open === 1 ? 'question is' : 'questions are'} open.`;
  return right === marks.length ? `${sofar}. Nothing is left to surprise you here.` : `${sofar}. What came out otherwise is what this method is about: look there again.`;
}

learned.listen(() => {
  const marks = items().map((item) => learned.mark(item.dataset.lesson));
  find('.score').textContent = score(marks);
  find('.track').innerHTML = marks.map((mark) => `<span class="${mark}"></span>`).join('');
  items().forEach((item, i) => {
    item.dataset.mark = marks[i];
    item.querySelector('.told').textContent = { right: 'as you said', wrong: 'not as you said: look again' }[marks[i]] ?? '';
  });
  find('button').hidden = marks.every((mark) => !mark);
});
element.addEventListener('click', (event) => {
  if (event.target.closest('button')) learned.forget();
  const link = event.target.closest('a[href^="#learn-"]');
  if (!link) return;
  event.preventDefault();
  document.getElementById(link.getAttribute('href').slice(1))?.scrollIntoView({ block: 'start' });
});
