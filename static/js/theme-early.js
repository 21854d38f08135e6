// A classic script in the head, before anything is drawn: the stored theme, so that the page does not flash.
(function () {
  "use strict";
  try {
    var stored = localStorage.getItem("tradedist.theme");
    if (stored === "light" || stored === "dark") document.documentElement.dataset.theme = stored;
  } catch (error) {
    console.warn("The theme is not remembered: this browser keeps no storage for the page.", error);
  }
})();
