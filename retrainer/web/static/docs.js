"use strict";
// Swagger UI of this server. It validates nothing elsewhere, and keeps the token in memory only.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
SwaggerUIBundle({
  url: "/docs/openapi.json",
  dom_id: "#api",
  validatorUrl: null,
  persistAuthorization: false,
  deepLinking: false,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
});
