import { Controller, Get, Param } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { ask, tokens as required } from 'library';
import * as imported from 'nestjs-idp-tokens';

/** The host imports the package, and its dependency requires it. */
@Controller('library')
export class LibraryController {
  constructor(private readonly moduleRef: ModuleRef) {}

  @Get(':userId')
  async asked(@Param('userId') userId: string) {
    return { asked: await ask(this.moduleRef, userId), different: await differences() };
  }
}

/** The names of the package whose values are not those of the library. `import()` gets the ES module in CommonJS too. */
async function differences() {
  const dynamic = await import('nestjs-idp-tokens');
  const names = Object.keys(required) as (keyof typeof required)[];
  return names.filter((name) => new Set([required[name], imported[name], dynamic[name]]).size > 1);
}
