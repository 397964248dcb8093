// Open the tab of that name, as a click on it would, and show it from its top.
(name) => {
  // Where the page is narrow, the last tabs stand in a menu.
  const tabs = [...document.querySelectorAll('#tabs [role="tab"], #tabs .overflow-dropdown button')];
  tabs.find((tab) => tab.textContent.trim() === name)?.click();
  window.scrollTo({ top: 0 });
  return [];
}
