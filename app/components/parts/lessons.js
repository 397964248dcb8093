// The way to a lesson: scroll to it, keep it in the page's address, and honour a link that names one.
const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
const go = (id, behavior) => document.getElementById(id)?.scrollIntoView({ behavior, block: 'start' });

element.addEventListener('click', (event) => {
  const link = event.target.closest('a[href^="#learn-"]');
  if (!link) return;
  event.preventDefault();
  const id = link.getAttribute('href').slice(1);
  window.history.replaceState(null, '', '#' + id);
  go(id, calm ? 'auto' : 'smooth');
});

// The page opens on another tab first: wait until the lesson is on show.
const opened = performance.getEntriesByType('navigation')[0]?.name ?? '';
const wanted = (window.location.hash || new URL(opened, window.location).hash).slice(1);
const arrive = (patience) => {
  if (document.getElementById(wanted)?.offsetParent) go(wanted, 'auto');
  else if (patience > 0) window.setTimeout(() => arrive(patience - 1), 200);
};
if (wanted.startsWith('learn-')) arrive(150);
