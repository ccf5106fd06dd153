import { init } from 'echarts';

import type { Results } from '../suites.js';

/** Returns the plots as SVG, by name: reads by callers, duration of a storm, reads by table size. */
export function plots({ reads, storm, growth }: Results): Record<string, string> {
  const svgs: Record<string, string> = {};
  if (reads) {
    const rivals = reads[0]?.standings.map(({ name }) => name) ?? [];
    svgs.reads = chart('Reads of fresh tokens per second, 100,000 rows, pool of 10', 'concurrent callers', {
      categories: reads.map(({ callers }) => String(callers)),
      series: rivals.map((name, index) => ({
        name,
        values: reads.map(({ standings }) => standings[index]?.perSecond.median ?? NaN),
      })),
    });
  }
  if (storm) {
    svgs.storm = chart(
      `${storm.users} expired tokens, pool of ${storm.poolSize}: milliseconds until all are fresh`,
      '',
      {
        categories: ['bare fetch', 'getIdpToken', 'row lock over the call'],
        series: [{ name: 'ms', values: [storm.bareMs.median, storm.moduleMs.median, storm.rowLockMs] }],
        isLogarithmic: true,
      },
    );
  }
  if (growth) {
    svgs.growth = chart('Reads per second as the table grows, 32 callers', 'rows', {
      categories: growth.sizes.map(({ rows }) => rows.toLocaleString('en')),
      series: [{ name: 'getIdpToken', values: growth.sizes.map(({ readsPerSecond }) => readsPerSecond) }],
    });
  }
  return svgs;
}

interface Bars {
  readonly categories: string[];
  readonly series: { readonly name: string; readonly values: number[] }[];
  readonly isLogarithmic?: boolean;
}

function chart(title: string, axis: string, { categories, series, isLogarithmic = false }: Bars): string {
  const canvas = init(null, null, { renderer: 'svg', ssr: true, width: 900, height: 420 });
  canvas.setOption({
    animation: false,
    backgroundColor: '#fff',
    title: { text: title, left: 'center' },
    legend: { show: series.length > 1, bottom: 0, itemWidth: 14, itemGap: 34 },
    grid: { left: 80, right: 30, top: 50, bottom: 80 },
    xAxis: { type: 'category', data: categories, name: axis, nameLocation: 'middle', nameGap: 28 },
    yAxis: { type: isLogarithmic ? 'log' : 'value' },
    series: series.map(({ name, values }) => ({
      name,
      type: 'bar',
      data: values.map(Math.round),
      label: { show: true, position: 'top', fontSize: 10 },
    })),
  });
  const svg = canvas.renderToSVGString();
  canvas.dispose();
  return svg;
}
