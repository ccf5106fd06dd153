import type { Type } from '@nestjs/common';
import * as tokens from 'nestjs-idp-tokens';

export { tokens };
/** Returns the access token of a user. If there is none, it returns the code of the error. */
export declare function ask(
  app: { get<T>(type: Type<T>, options: { strict: boolean }): T },
  userId: string,
): Promise<string>;
