import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';

import { applyDecorators, Controller, Get, Header } from '@nestjs/common';
import { ApiExcludeController } from '@nestjs/swagger';

/** The folder of the files. The compiler copies no HTML, so the compiled program reads the files of its sources. */
const BESIDE = new URL('./', import.meta.url);
const FOLDER = existsSync(new URL('index.html', BESIDE)) ? BESIDE : new URL('../../../examples/page/', BESIDE);

/**
 * The page may load files of this application, and send requests to it. It may do nothing else. `form-action` is 'none'
 * because a script sends every form, so that no redirect after a form can lead anywhere. The script opens the URL of the
 * provider itself. The last two directives let no script make elements out of a text.
 */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

const HEADERS = {
  'Content-Security-Policy': CONTENT_SECURITY_POLICY,
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cache-Control': 'no-store', // so that the back button shows no data of a session that is over
};

/** Serves the page and its files. It needs no session, because the files have no data of a user. */
@ApiExcludeController()
@Controller()
export class PageController {
  @Get()
  @ServedAs('text/html; charset=utf-8')
  page(): Promise<string> {
    return read('index.html');
  }

  @Get('page.css')
  @ServedAs('text/css; charset=utf-8')
  style(): Promise<string> {
    return read('page.css');
  }

  @Get('page.js')
  @ServedAs('text/javascript; charset=utf-8')
  script(): Promise<string> {
    return read('page.js');
  }

  @Get('icon.svg')
  @ServedAs('image/svg+xml')
  icon(): Promise<string> {
    return read('icon.svg');
  }
}

function ServedAs(type: string): MethodDecorator {
  const headers = Object.entries({ ...HEADERS, 'Content-Type': type });
  return applyDecorators(...headers.map(([name, value]) => Header(name, value)));
}

function read(name: string): Promise<string> {
  return readFile(new URL(name, FOLDER), 'utf8');
}
