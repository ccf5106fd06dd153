import { RunningParts } from '../../examples/running-parts.js';
import { type Demo, startDemo } from '../../examples/start.js';
import { StepList } from '../../examples/tour/step-list.js';

/** Starts the demo as `npm start` does, without the tour. The caller stops it. */
export async function startDemoForTest(): Promise<Demo & { stop(): Promise<void> }> {
  const parts = new RunningParts();
  const stop = () => parts.stop();
  try {
    const demo = await startDemo(0, parts, new StepList(new AbortController().signal), false);
    return { ...demo, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
