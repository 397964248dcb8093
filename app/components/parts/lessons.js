// The way to a lesson: scroll to it, keep it in the page's address, and honour a link that names one.
const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
const go = (id, behavior) => document.getElementById(id)?.scrollIntoView({ behavior, block: 'start' });

element.addEventListener('click', (event) => {
  const link = event.target.closest('a[href^="#learn-"]');
  if (!link) return;
  event.preventDefault();
  const id = link.getAttribute('href').slice(1);
  window.history.replaceState(null, '', window.location.pathname + window.location.search + '#' + id);
  go(id, calm ? 'auto' : 'smooth');
});

// A layer that a reading names is one press away.
document.addEventListener('click', (event) => {
  const link = event.target.closest('.lesson a[href^="#layer="]');
  if (!link) return;
  event.preventDefault();
  store.set({ layer: link.getAttribute('href').slice('#layer='.length) });
});

// A lesson whose question was answered is ticked; how it was answered shows by sign and shape.
learned.listen(() => {
  for (const link of element.querySelectorAll('a[data-lesson]')) {
    const mark = learned.mark(link.dataset.lesson);
    link.dataset.mark = mark;
    link.querySelector('.state').textContent = { right: ', predicted right', wrong: ', predicted otherwise' }[mark] ?? '';
  }
});

// The page opens on another tab first and moves while charts arrive: hold on to the lesson until the reader acts.
const wanted = window.location.hash.slice(1);
let held = wanted.startsWith('learn-');
for (const act of ['wheel', 'touchstart', 'pointerdown', 'keydown'])
  window.addEventListener(act, () => { held = false; }, { once: true, passive: true });
const hold = (ticks) => {
  if (!held || ticks === 0) return;
  const lesson = document.getElementById(wanted);
  if (lesson?.offsetParent) {
    if (Math.abs(lesson.getBoundingClientRect().top) > 120) go(wanted, 'auto');
    ticks -= 1;
  }
  window.setTimeout(() => hold(ticks), 200);
};
hold(25);
