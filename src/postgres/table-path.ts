import type { DataSource, EntityTarget, ObjectLiteral } from 'typeorm';

import { TokensConfigurationError } from '../tokens.errors.js';

/**
 * Returns the quoted path of an entity's table, in the schema of the data source if it sets one.
 *
 * @throws {@link TokensConfigurationError} when the data source does not know the entity
 */
export function tablePathOf(dataSource: DataSource, entity: EntityTarget<ObjectLiteral>): string {
  if (!dataSource.hasMetadata(entity)) {
    throw new TokensConfigurationError(
      'The data source does not know the entities of nestjs-idp-tokens. ' +
        'Add ...tokensEntities to the entities of its options, or set autoLoadEntities: true in TypeOrmModule.forRoot. ' +
        'Initialise it before tokens are used.',
    );
  }
  return dataSource
    .getMetadata(entity)
    .tablePath.split('.')
    .map((part) => dataSource.driver.escape(part))
    .join('.');
}
