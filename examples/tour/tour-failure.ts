/** The tour had another outcome than the one that it shows. */
export class TourFailure extends Error {
  constructor(whatHappened: string) {
    super(`The tour failed: ${whatHappened}`);
  }
}
