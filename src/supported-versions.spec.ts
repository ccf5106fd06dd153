import { readFile } from 'node:fs/promises';

import { describe, expect, it } from '@jest/globals';

import { SUPPORTED_VERSIONS, versionFaults } from './supported-versions.js';

function faultsWith(versions: Record<string, string>): string[] {
  return versionFaults((name) => versions[name]);
}

describe('versionFaults', () => {
  it('has the ranges of package.json', async () => {
    const { engines, peerDependencies } = JSON.parse(await readFile('package.json', 'utf8')) as {
      engines: Record<string, string>;
      peerDependencies: Record<string, string>;
    };
    expect({ ...engines, ...peerDependencies }).toMatchObject(SUPPORTED_VERSIONS);
    expect(peerDependencies['@nestjs/core']).toBe(peerDependencies['@nestjs/common']);
  });

  it('names every unsupported version and what is supported', () => {
    expect(faultsWith({ node: '18.20.4', '@nestjs/common': '10.4.15', typeorm: '0.2.45' })).toEqual([
      'nestjs-idp-tokens does not work with Node.js 18.20.4: install Node.js ^20.19.0 || ^22.13.0 || >=24.0.0',
      'nestjs-idp-tokens does not work with @nestjs/common 10.4.15: install @nestjs/common ^11.0.0 || ^12.0.0',
      'nestjs-idp-tokens does not work with typeorm 0.2.45: install typeorm ^0.3.15 || ^1.0.0',
    ]);
  });

  it.each([
    ['node', ['20.19.0', '20.20.2', '22.13.0', '24.0.0', '25.1.0', '26.10.0']],
    ['@nestjs/common', ['11.0.0', '11.2.10', '12.5.1', '12.0.0-next.3']],
    ['typeorm', ['0.3.15', '0.3.31', '1.0.0', '1.1.1', '1.0.0-dev.3']],
  ])('accepts every supported version of %s', (name, versions) => {
    expect(versions.flatMap((version) => faultsWith({ [name]: version }))).toEqual([]);
  });

  it.each([
    ['node', ['20.18.3', '21.7.0', '22.12.0', '23.11.0']],
    ['@nestjs/common', ['9.4.0', '13.0.0']],
    ['typeorm', ['0.2.45', '0.3.14', '0.4.0', '2.0.0']],
  ])('refuses every other version of %s', (name, versions) => {
    expect(versions.filter((version) => faultsWith({ [name]: version }).length !== 1)).toEqual([]);
  });

  it('says nothing about versions that it cannot read', () => {
    expect(faultsWith({ node: 'unknown', typeorm: '' })).toEqual([]);
  });

  it('finds no fault here', () => {
    expect(versionFaults()).toEqual([]);
  });
});
