// Starts Swagger UI. A key that is entered is also sent for the document, which then has the tools of that key.
"use strict";

let key = null;

// What was entered under "Authorize": an object of {name, schema, value} by the name of the scheme.
const keyOf = (entered) => Object.values(entered).map((one) => one.value).find((value) => typeof value === "string") || null;

const readAgain = (change) => (original, system) => (entered) => {
  const result = original(entered);
  key = change(entered);
  system.specActions.download(system.specSelectors.url());
  return result;
};

const documentOfTheKey = () => ({
  statePlugins: {
    auth: { wrapActions: { authorize: readAgain(keyOf), logout: readAgain(() => null) } },
  },
});

window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  filter: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  validatorUrl: null,
  plugins: [documentOfTheKey],
  requestInterceptor: (request) => {
    if (request.loadSpec && key) {
      request.headers = { ...request.headers, Authorization: `Bearer ${key}` };
    }
    return request;
  },
});
