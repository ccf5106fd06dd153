/** The tour saw something else than it promises. */
export class TourFailure extends Error {
  constructor(whatHappened: string) {
    super(`The tour failed: ${whatHappened}`);
  }
}
