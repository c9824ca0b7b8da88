// Runs before MLflow's own script, in the server of `riseorfall up`. What a person chose earlier stays.
(() => {
  const unset = (key) => window.localStorage.getItem(key) === null;
  const workflow = "mlflow.workflowType_v1"; // opens runs instead of traces, and shows the model registry
  if (unset(workflow)) window.localStorage.setItem(workflow, '"machine_learning"');
  const assistant = "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1"; // its panel would cover a third of the page
  if (unset(assistant)) window.localStorage.setItem(assistant, "true");
  if (!["", "#", "#/"].includes(window.location.hash)) return;
  const page = document.documentElement.style;
  page.visibility = "hidden"; // instead of MLflow's introduction for language models
  const filter = encodeURIComponent("tags.purpose = 'retrain'");
  fetch(`ajax-api/2.0/mlflow/experiments/search?max_results=2&filter=${filter}`)
    .then((answer) => answer.json())
    .then(({ experiments = [] }) => {
      window.location.hash =
        experiments.length === 1 ? `RUNS_PATH`.replace("EXPERIMENT_ID", experiments[0].experiment_id) : "#/experiments";
    })
    .finally(() => { page.visibility = ""; });
})();
