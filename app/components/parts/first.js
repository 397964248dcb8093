// Asks once for the comparison that the tab opens with, when its controls say what the link and the bar do.
document.addEventListener('compare-lined-up', () => trigger('select'), { once: true });
