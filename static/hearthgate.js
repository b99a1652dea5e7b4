// Everything works without this file; it only makes things nicer.
for (const button of document.querySelectorAll("button[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  const says = button.textContent;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent.trim());
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = says; }, 2000);
  });
}
// A logo that does not load leaves the initials.
for (const logo of document.querySelectorAll(".face img")) {
  if (logo.complete && !logo.naturalWidth) logo.remove();
  else logo.addEventListener("error", () => logo.remove());
}
document.documentElement.classList.add("script");
