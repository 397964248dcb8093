// Asks once, after the event of that name, for the comparison that the tab opens with.
document.addEventListener(props.after, () => trigger('select'), { once: true });
