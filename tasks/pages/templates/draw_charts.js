for (const place of document.querySelectorAll(".chart")) {
  const chart = JSON.parse(document.getElementById(place.id + "-json").textContent);
  Plotly.newPlot(place, chart.data, chart.layout, {responsive: true, displayModeBar: false, scrollZoom: false});
}
