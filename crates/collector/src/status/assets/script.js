// Says when what the page shows is old, and loads it again while somebody looks. Without this script the page is whole.
"use strict";

(() => {
  const asOf = document.getElementById("as-of");
  if (!asOf) return;
  const told = Number(asOf.dataset.asOf) * 1000;
  const text = asOf.innerText;
  const look = () => {
    const minutes = Math.floor((Date.now() - told) / 60000);
    const old = Date.now() - told > 120000;
    document.body.classList.toggle("stale", old);
    asOf.classList.toggle("stale", old);
    const said = old ? `${text}: ${minutes} minutes old, and may not be so any more` : text;
    if (asOf.innerText !== said) asOf.innerText = said;
  };
  look();
  setInterval(look, 1000);
  setInterval(() => { if (document.visibilityState === "visible" && navigator.onLine) location.reload(); }, 60000);
})();
