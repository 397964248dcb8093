// The way to a lesson: scroll to it, keep it in the page's address, and honour a link that names one.
const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
const go = (id) => document.getElementById(id)?.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'start' });

element.addEventListener('click', (event) => {
  const link = event.target.closest('a[href^="#learn-"]');
  if (!link) return;
  event.preventDefault();
  const id = link.getAttribute('href').slice(1);
  window.history.replaceState(null, '', '#' + id);
  go(id);
});
if (window.location.hash.startsWith('#learn-')) window.setTimeout(() => go(window.location.hash.slice(1)), 600);
