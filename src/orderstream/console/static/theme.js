// Before anything is drawn, so that nothing flashes: the colours that were chosen, or the system's.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    document.documentElement.dataset.theme = localStorage.getItem("theme") ?? (dark.matches ? "dark" : "light");
    dispatchEvent(new Event("theme"));
  };
  dark.addEventListener("change", show);
  show();
})();
