// Open the tab of that name, as a click on it would, and show it from its top.
(name) => {
  const tabs = [...document.querySelectorAll('#tabs [role="tab"]')];
  tabs.find((tab) => tab.textContent.trim() === name)?.click();
  window.scrollTo({ top: 0 });
  return [];
}
