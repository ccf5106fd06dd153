import { ApiProperty } from '@nestjs/swagger';
import { Matches } from 'class-validator';

/** The user that asks for a session. A real application would ask for a proof. */
export class CreateSessionDto {
  @ApiProperty({ example: 'alice' })
  @Matches(/^[\w.@-]{1,64}$/, { message: 'userId must be 1 to 64 letters, digits, "_", ".", "@" or "-"' })
  userId!: string;
}
