int   crooked( ) ;
